"""Models and their tokenizers: sources, loading, quantization, and preparation of the chat template."""
