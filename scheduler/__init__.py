"""Deciding which request runs where and when: a pure core and the asyncio driver that feeds it."""
