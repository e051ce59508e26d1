"""ReplyWanted → engine of the channel → a message in the conversation → SendRequested."""
