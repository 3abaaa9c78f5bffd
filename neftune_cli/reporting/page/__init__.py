"""The HTML report `report.html`."""
