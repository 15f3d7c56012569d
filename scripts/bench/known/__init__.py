"""Maps of scenes whose boxes are known: what is asked, how it is judged, and the tables of it.

Flow: `views` -> a server -> `scores`, per scene -> `figures`, with intervals over scenes -> `page`.
"""
