"""Anthropic's Messages API beside OpenAI's: its requests as chats, the answers in its form."""
