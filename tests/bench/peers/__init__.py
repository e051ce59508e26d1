"""What a team would build instead of Palomar, for `palomar bench peers`: the same job with FastStream, and inline.

Both take a signed WhatsApp webhook of Twilio's, store contact, conversation and message, answer by the same rules,
send the answer through Twilio's API and store its sid. They have one channel and one tenant. They know no opt-outs, no
campaigns, no events, no rate of a channel and no order of a customer's messages, all of which Palomar's side has.
"""
