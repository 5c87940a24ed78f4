"""Evolution: individuals that learn by reward, what they are worth, and which of them go on."""
