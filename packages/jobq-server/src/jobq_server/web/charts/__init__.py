"""Charts as SVG, made on the server: classes for the colours, and titles for what the pointer is over."""
