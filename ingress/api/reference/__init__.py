"""What describes the API to its users, made from the declarations: /openapi.json and the page at /docs."""
