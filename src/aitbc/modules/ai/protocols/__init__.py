"""The public protocols that ai speaks beside its own API: OpenAI's and Anthropic's, below `/v1`."""
