"""What the tests share: private servers, the oracle, histories."""
