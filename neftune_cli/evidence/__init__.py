"""What trials measured, read from this tool's folders or from others', ready to be judged."""
