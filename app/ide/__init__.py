"""The page: a conversation with the model beside an editor whose program runs in the sandbox."""
