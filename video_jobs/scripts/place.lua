-- place: reads where a queued job stands and when it will start, by the order that claim follows. Changes nothing.
-- ARGV 1 job id  2 workers of the line  3 most tenants looked at in each lane
-- returns nothing if the job is not in line, else {place from 1, ms until it starts, ms it will take}
local job = job_of(ARGV[1])
local rank = job.place and redis.call('ZRANK', named('queue', job.place), job.id)
if not rank then return {} end
local class, workers = tonumber(string.sub(job.lane, -1)), math.max(1, ARGV[2])
local own = number(TENANCY .. 'backlog', job.place) * rank / redis.call('ZCARD', named('queue', job.place))
local reach = virtual_time(job.lane, job.tenant) + own / weight(job.tenant)
local jobs, work = {above = 0, own = rank}, {above = 0, own = own}

-- How much of another tenant's queue goes first: in a higher lane all of it, in the same one until it has had as much.
local function count_ahead(lane, tenant, stands_at)
  local waiting = redis.call('ZCARD', named('queue', lane .. ':' .. tenant))
  local cost = number(TENANCY .. 'backlog', lane .. ':' .. tenant)
  local first = waiting
  if lane == job.lane then
    local room = (reach - stands_at) * weight(tenant) / math.max(1, cost / waiting)
    if room == 0 then room = tenant < job.tenant and 1 or 0 end
    first = math.min(waiting, math.max(0, math.ceil(room)))
  end
  local where = lane == job.lane and 'own' or 'above'
  jobs[where], work[where] = jobs[where] + first, work[where] + cost * first / waiting
end

-- A job that was handed back waits for nobody but its like.
local is_first = job.turn ~= nil
for c = is_first and class or 0, class do
  local lane = job.line .. ':' .. c
  local stand = redis.call('ZRANGE', named('turns', lane), 0, ARGV[3] - 1, 'WITHSCORES')
  for i = 1, is_first and 0 or #stand, 2 do
    if lane .. ':' .. stand[i] ~= job.place then count_ahead(lane, stand[i], tonumber(stand[i + 1])) end
  end
end
-- A lower lane gets one start of every few, however much waits above it.
local passing = PATIENCE[class] or 0
local may_pass = math.max(0, (jobs.own + 1) * passing - number(TENANCY .. 'passed', job.lane))
if jobs.above > may_pass then jobs.above, work.above = may_pass, work.above * may_pass / jobs.above end
local ahead = work.own + work.above
-- What will come while the tenant's own jobs ahead are served, if it goes on as it did.
local _, others_work, own_work = pace(job.lane, job.tenant)
if own_work > 0 and not is_first then ahead = math.max(ahead, own * (1 + others_work / own_work)) end

-- Jobs run for half their time on average by now, and the first worker that is free takes the next.
local running = number(TENANCY .. 'backlog', 'running:' .. job.line)
local runners = number(TENANCY .. 'backlog', 'runners:' .. job.line)
local wait_ms = 0
if jobs.own + jobs.above >= workers - runners then
  local early = runners > 0 and running / runners * (workers - 1) / (workers + 1) / 2 or 0
  wait_ms = math.max(0, (ahead + running / 2) / workers - early)
end
local cap = limit(job.tenant, 'running')
if cap then wait_ms = math.max(wait_ms, own / math.min(cap, workers)) end
return {jobs.own + jobs.above + 1, math.floor(wait_ms), job.cost}
