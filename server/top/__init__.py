"""`wattline top`: a running server at the terminal, live and by keyboard.

`GET /v1/energy/live` is all it knows: that is read (`connection`, `live_body`), reduced to a state (`state`), laid out
as lines and tables (`overview`, `tables`, `frame`) by functions that know no terminal, and shown (`app`) or printed.
Nothing here may import an engine, or the server beside its errors and units: it has to start at once.
"""
