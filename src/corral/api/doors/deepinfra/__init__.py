"""The door that speaks DeepInfra's native dialect: inference, models, account, deploys."""
