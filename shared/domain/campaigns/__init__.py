"""The rules of campaigns: their life, whom they may reach and when, how fast, and what stops them. No I/O."""
