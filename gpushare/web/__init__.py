"""The aiohttp side: requests in, responses out."""
