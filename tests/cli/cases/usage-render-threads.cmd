octavo-render --threads x
