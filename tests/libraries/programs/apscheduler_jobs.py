"""Jobs kept in Redis"""

import sys
from datetime import UTC, datetime, timedelta

from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.schedulers.background import BackgroundScheduler

scheduler = BackgroundScheduler(jobstores={"default": RedisJobStore(port=int(sys.argv[1]))})
scheduler.start(paused=True)
scheduler.remove_all_jobs()
scheduler.add_job(print, "date", run_date=datetime.now(UTC) + timedelta(hours=1), id="job", args=["x"])
assert [job.id for job in scheduler.get_jobs()] == ["job"]
scheduler.remove_job("job")
assert scheduler.get_jobs() == []
scheduler.shutdown()
