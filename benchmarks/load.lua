-- for wrk: posts photos in turn, each connection so often, and counts the answers' statuses
local bodies, place, statuses = {}, 0, {}
local pause = tonumber(os.getenv("PAUSE_MS"))

function init(args)
  for path in io.lines(os.getenv("PHOTOS")) do
    local file = io.open(path, "rb")
    bodies[#bodies + 1] = file:read("*a")
    file:close()
  end
end

function delay() return pause end

function request()
  place = place % #bodies + 1
  return wrk.format("POST", "/v1/predict", { ["Content-Type"] = "image/jpeg" }, bodies[place])
end

local threads = {}
function setup(thread) table.insert(threads, thread) end
counts = ""
local seen = {}
function response(status)
  seen[status] = (seen[status] or 0) + 1
  counts = ""
  for number, count in pairs(seen) do counts = counts .. number .. "=" .. count .. " " end
end

function done(summary, latency, requests)
  for _, thread in ipairs(threads) do io.write("STATUSES " .. thread:get("counts") .. "\n") end
  io.write(string.format("SUMMARY requests=%d duration_us=%d connect=%d read=%d write=%d status=%d timeout=%d\n",
    summary.requests, summary.duration, summary.errors.connect, summary.errors.read, summary.errors.write,
    summary.errors.status, summary.errors.timeout))
  io.write(string.format("LATENCY p50=%d p99=%d max=%d\n", latency:percentile(50), latency:percentile(99), latency.max))
end
