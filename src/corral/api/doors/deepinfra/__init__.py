"""DeepInfra's native API: inference, models, account, deploys."""
