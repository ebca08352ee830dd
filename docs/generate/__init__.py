"""The generated parts of the reference: blocks of pages between comments, and the OpenAPI schema."""
