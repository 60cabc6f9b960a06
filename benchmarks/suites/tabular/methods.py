"""The methods by name: whose they are, and what that library's module calls them."""

OURS = {f"dlcore_{name}": ("dlcore", name) for name in ("realmlp", "tabm", "mlp")}
PEERS = {
    "sklearn_mlp": ("sklearn", "mlp"),
    "sklearn_hist": ("sklearn", "hist"),
    "lightgbm": ("lightgbm", ""),
    "xgboost": ("xgboost", ""),
    "catboost": ("catboost", ""),
    "realmlp_td": ("pytabkit", "realmlp_td"),
    "realmlp_td_s": ("pytabkit", "realmlp_td_s"),
    "tabm": ("tabm", "tabm"),
}
MORE = {  # if they are named
    "tabm_ple": ("tabm", "tabm_ple"),
    "tabm_d": ("pytabkit", "tabm_d"),
    "lightgbm_td": ("pytabkit", "lightgbm_td"),
    "xgboost_td": ("pytabkit", "xgboost_td"),
    "catboost_td": ("pytabkit", "catboost_td"),
}
METHODS = OURS | PEERS | MORE
