"""Runs campaigns: CampaignDue → recipients frozen → messages, in pages."""
