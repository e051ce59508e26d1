"""campaigns, campaign_recipients and campaign_counts: what a campaign is, whom it reaches, and how far it is."""
