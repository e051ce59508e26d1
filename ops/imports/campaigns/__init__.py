"""Imports the contacts-and-campaigns system: `CAMPAIGNS` in system.py says table by table how."""
