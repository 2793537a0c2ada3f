import sqlite3, random, time
r = random.Random(3)
db = sqlite3.connect("accounts.db", isolation_level=None)
db.execute("pragma journal_mode=delete"); db.execute("pragma synchronous=full")
db.execute("create table account(id integer primary key, name text, balance int)")
db.execute("create table movement(id integer primary key, account int, amount int, note text)")
db.execute("create index by_account on movement(account)")
db.execute("begin")
for i in range(200000): db.execute("insert into account values(?,?,0)", (i, "%032x" % r.getrandbits(128)))
db.execute("commit")
end = time.time() + 150
while time.time() < end:
    db.execute("begin")
    for _ in range(r.choice([1, 1, 2, 5])):
        a = int(200000 * r.random() ** 3); v = r.randrange(1000)
        db.execute("update account set balance=balance+? where id=?", (v, a))
        db.execute("insert into movement(account,amount,note) values(?,?,?)", (a, v, "%064x" % r.getrandbits(256)))
    db.execute("commit")
