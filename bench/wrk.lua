-- What wrk asks: the requests of a file, one after the other, so that no session is asked for twice at once.
-- Requests are split at a line with a dash; at the end the figures go to standard output as JSON.
local requests, number = {}, 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  for request in string.gmatch(file:read("*a"), "(.-)\n%-\n") do
    requests[#requests + 1] = request
  end
  file:close()
end

function request()
  number = number % #requests + 1
  return requests[number]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "microseconds": %d, "errors": %d, "p50": %d, "p99": %d}\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
