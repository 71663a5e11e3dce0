"""Names of classes as text: tokens, templates, and what a text encoder makes of them."""
