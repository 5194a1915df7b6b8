"""Pages that a browser opens offline, in one style: one HTML file with its figures, pictures, style and script."""
