"""The procedures, a module each family. Each module is found by itself."""
