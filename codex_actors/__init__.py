"""Supervised OpenAI Codex turns for trio."""
