"""CampaignDue → recipients frozen, messages made page by page, the end."""
