"""The hot paths and what they touch, behind one door: cells, positions, promises, and the loops over them.

Compiling the objects that the program has gains little, as the time goes into touching them all over memory. So what is
touched a hundred thousand times a second has a room of its own, in batches, for which there can be a native twin. This
one, in pure Python, says what is right, and remains for where there is none.

The door is

    slot.Copies          of each slot the copy: its cells, its position, what is promised, whether it is plain;
                         `patch`, and `Slot.apply`, by which ordinary code makes any change
    batches.run          a coordinator's operations -> our copy changed, rows for the other owners, replies remembered
    batches.accept       rows of a home's turn -> our copy changed, the tickets of those that were not accepted
    batches.compare      keys and the versions that a reader holds -> which ones are others here
    batches.run_alone    a client's requests, where we are the only owner -> their replies

What a twin must provide is these names, and:

- Whatever is not usual leaves to ordinary code at once, before anything behind it is begun: by a call of who has called
  (`Home`, `Owner`, `Alone`, in `batches`), or as the place at which a batch has stopped. Ordinary code changes copies
  by itself, so nothing that was known of them before that call counts after it. To leave what could have been done is
  right, and slow.
- Between two calls ordinary code reads and writes `positions`, `promised`, `cells` and `plain` by slot number; a
  slot's cells are a mapping in the order in which keys came, of (version, value, deadline). A twin that holds them
  otherwise has lists and mappings that look so.
- A cell is as it was, or of the version that a change leads to, and the position is that: also after an exception.
- What is held by a transaction, or has a deadline, is of a slot that is `timed`: that is never touched unasked.
- No clock, no chance, nothing of its own that outlasts a call, beside the copies.

`tests/kernel/test_door.py` compares a kernel with the program to which nothing is usual: by the bytes that travel, the
replies, and the copies.

Not here: a read of ours (`Reads.read`) is looked up when it comes, one by one, and so has no batch; to have one it
would be called once more. And cells are tuples: packed into bytes 100,000 keys of 16 bytes with values of 64 take 263
bytes each in place of 352, but commands are shown tuples, and looking a key up for GET takes 8 to 11 % longer.
"""
