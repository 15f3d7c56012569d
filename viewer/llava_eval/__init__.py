"""How well a map agrees with a known truth, or with the model itself: metrics and their statistics. numpy only."""
