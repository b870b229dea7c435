"""Studies of learners: agents that learn episode after episode, without a language model."""
