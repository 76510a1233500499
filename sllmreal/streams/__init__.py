"""Token streams between a request's owner (in the gateway) and engine hosts (in workers).

`StreamOwner` and `HostCore` are state machines without clock, thread or socket. They share one
convention, which is that of aioquic:

    receive(message, now_s)   take a message; other inputs are further methods that take `now_s`
    next_wakeup_s             latest time to call `advance`; None if nothing is due at any time
    advance(now_s)            do what is due at `now_s`
    take_outputs()            return what the caller has to do now, in order, and forget it

After each input the caller calls `take_outputs` and sets its timer to `next_wakeup_s`.
`MigrationSource` and `MigrationDestination` (`sllmreal.migration`) follow it too, but return their
messages from `advance` and `receive`.
"""
