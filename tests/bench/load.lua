-- For wrk: sends the requests of a file in turn, and prints what came out as a line of JSON.
--   wrk ... -s load.lua URL -- FILE BYTES        each request in FILE has so many bytes
-- Of a single request wrk makes a constant, and doesn't ask Lua again.
local requests, at = {}, 0

local function next_request()
  at = at % #requests + 1
  return requests[at]
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local bytes = tonumber(args[2])
  for text in function() return file:read(bytes) end do
    requests[#requests + 1] = text
  end
  file:close()
  if #requests > 1 then
    request = next_request
  end
  wrk.format = next_request
end

function done(summary)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
    summary.requests, summary.duration, errors.connect, errors.read, errors.write, errors.status,
    errors.timeout))
end
