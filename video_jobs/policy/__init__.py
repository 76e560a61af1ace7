"""What may be made: lists of sensitive words, a moderation service, and what an operator decides about one end user.

Gateways and workers ask the same rules. Nothing here decides what is sensitive: the lists and the service are the
operator's own.
"""
