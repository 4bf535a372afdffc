"""A real Prometheus, with the configuration that is shipped, scraping a real server under load: does all of it work?"""
