-- What wrk sends, by the environment: BENCH_METHOD, BENCH_PREFIX (a forward proxy's absolute form), BENCH_PATH,
-- BENCH_BODIES (a file, one body a line), BENCH_VARIANTS (?n=0..), BENCH_CLOSE. Requests are built before the run.
local requests, position = {}, 0

function init(args)
  local variants = tonumber(os.getenv("BENCH_VARIANTS"))
  local method = os.getenv("BENCH_METHOD")
  local target = os.getenv("BENCH_PREFIX") .. os.getenv("BENCH_PATH")
  local bodies = {}
  if method == "POST" then
    for line in io.lines(os.getenv("BENCH_BODIES")) do bodies[#bodies + 1] = line end
    wrk.headers["Content-Type"] = "application/json"
  end
  wrk.headers["Accept"] = "application/json"
  wrk.headers["User-Agent"] = "bench/1"
  if os.getenv("BENCH_CLOSE") == "1" then wrk.headers["Connection"] = "close" end
  for n = 0, variants - 1 do
    local body = nil
    if #bodies > 0 then body = bodies[n % #bodies + 1] end
    requests[n + 1] = wrk.format(method, target .. "?n=" .. n, nil, body)
  end
end

function request()
  position = position % #requests + 1
  return requests[position]
end

function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "p999_us": %d, "errors": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    e.connect + e.read + e.write + e.status + e.timeout))
end
