"""Imports the distributors of the Database Setup document: `DISTRIBUTORS` in system.py says table by table how."""
