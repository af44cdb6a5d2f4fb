"""Models with indexes and queries, rate limits, locks"""

import sys

from walrus import AutoIncrementField, IntegerField, Model, TextField, Walrus

db = Walrus(port=int(sys.argv[1]))
db.flushdb()


class User(Model):
    __database__ = db
    id = AutoIncrementField()
    name = TextField(index=True)
    age = IntegerField(index=True)


User.create(name="Ann", age=30)
User.create(name="Bob", age=20)
assert [user.name for user in User.query(User.age > 25)] == ["Ann"]
assert User.get(User.name == "Bob").age == 20
with db.lock("lock", ttl=5000):
    pass
