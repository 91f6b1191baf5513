"""The model in other libraries, as their own manuals would have it written."""
