/* The server itself: numbers, upkeep, version, and the description of all of this. */
#include <string.h>

#include "api/json_text.h"
#include "api/openapi.h"
#include "api/reply.h"
#include "api/routes.h"

static void answer_json(struct request *request, json_t *object)
{
    struct json_text text = {0};
    struct reply reply;
    size_t len;
    char *at;

    json_text_add_value(&text, object);
    json_text_add(&text, "\n");
    at = json_text_take(&text, &len);
    reply = reply_text(at, len);
    reply_add(&reply, "Content-Type", "application/json");
    reply_add(&reply, "Cache-Control", "no-store");
    reply_queue(request, MHD_HTTP_OK, &reply);
}

/* --- Upkeep -------------------------------------------------------------------------------- */

static void done(void *arg, enum err err)
{
    struct request *request = arg;

    request->err = err;
    request_complete(request);
}

static void answer_done(struct request *request)
{
    struct reply reply;

    request_fail_err(request, request->err);
    if (request->problem != PROBLEM_NONE) {
        return;
    }
    reply = reply_empty();
    reply_queue(request, MHD_HTTP_NO_CONTENT, &reply);
}

static void flush_finish(struct request *request)
{
    request_start(request);
    store_flush(request_store(request), done, request);
    request_then(request, answer_done);
}

static void compact_finish(struct request *request)
{
    request_start(request);
    store_compact(request_store(request), done, request);
    request_then(request, answer_done);
}

const struct handler admin_flush = {.needs_store = true, .suspends = true, .finish = flush_finish};
const struct handler admin_compact = {
    .needs_store = true, .suspends = true, .finish = compact_finish};

/* --- Numbers ------------------------------------------------------------------------------- */

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

static const char *state_name(enum store_state state)
{
    switch (state) {
    case STORE_WRITABLE:
        return "writable";
    case STORE_NO_SPACE:
        return "no-space";
    case STORE_READ_ONLY:
        return "read-only";
    }
    return "unknown";
}

static json_t *levels_array(const struct store_stats *stats)
{
    json_t *array = json_array();

    for (unsigned i = 0; i < STORE_LEVELS; i++) {
        json_t *level =
            json_pack("{s:i, s:o, s:o}", "level", (int)i, "tables", number(stats->level_tables[i]),
                      "bytes", number(stats->level_bytes[i]));

        if (json_array_append_new(array, level) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

/* Where each number of the store stands in the answer. */
#define NUMBER(section, name, member)                       \
    {                                                       \
        section, name, offsetof(struct store_stats, member) \
    }
static const struct {
    const char *section, *name;
    size_t offset;
} numbers[] = {
    NUMBER("memtables", "active_bytes", memtable_bytes),
    NUMBER("memtables", "sealed", sealed_memtables),
    NUMBER("memtables", "sealed_bytes", sealed_bytes),
    NUMBER("log", "segments", log_segments),
    NUMBER("log", "bytes_used", log_bytes_used),
    NUMBER("log", "bytes_written", log_bytes_written),
    NUMBER("log", "syncs", log_syncs),
    NUMBER("flushes", "count", flushes),
    NUMBER("flushes", "bytes", flushed_bytes),
    NUMBER("compactions", "count", compactions),
    NUMBER("compactions", "read_bytes", compaction_read_bytes),
    NUMBER("compactions", "written_bytes", compaction_written_bytes),
    NUMBER("compactions", "debt_bytes", compaction_debt_bytes),
    NUMBER("scrub", "bytes", scrub_bytes),
    NUMBER("scrub", "passes", scrub_passes),
    NUMBER("scrub", "last_pass_us", scrub_pass_us),
    NUMBER("scrub", "damaged_tables", damaged_tables),
    NUMBER("admission", "inflight_bytes", inflight_bytes),
    NUMBER("admission", "waiting_writes", waiting_writes),
    NUMBER("admission", "stalls", stalls),
    NUMBER("admission", "stalled_us", stalled_us),
    NUMBER("admission", "level0_stops", level0_stops),
    NUMBER("admission", "write_limit", write_limit),
    NUMBER("operations", "gets", gets),
    NUMBER("operations", "cold_reads", cold_reads),
    NUMBER("operations", "waiting_reads", waiting_reads),
    NUMBER("operations", "writes", writes),
    NUMBER("filters", "lookups", filter_lookups),
    NUMBER("filters", "positives", filter_positives),
    NUMBER("filters", "false_positives", filter_false_positives),
    NUMBER("pins", "entries", pinned_entries),
    NUMBER("pins", "bytes", pinned_bytes),
    NUMBER("pins", "scans", scans_open),
    NUMBER("pins", "rcu_backlog", rcu_backlog),
    NUMBER("recovery", "us", recovery_us),
    NUMBER("recovery", "records", recovered_records),
};
#undef NUMBER

static int add_numbers(json_t *object, const struct store_stats *stats)
{
    int failed = 0;

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        json_t *section = json_object_get(object, numbers[i].section);
        uint64_t value;

        memcpy(&value, (const char *)stats + numbers[i].offset, sizeof(value));
        if (section == NULL) {
            section = json_object();
            if (json_object_set_new(object, numbers[i].section, section) != 0) {
                return -1; /* and the section is gone */
            }
        }
        failed |= json_object_set_new(section, numbers[i].name, number(value));
    }
    return failed;
}

static json_t *stats_object(const struct request *request, const struct store_stats *stats)
{
    int64_t uptime_s = (clock_monotonic_us() / 1000 - request->api->started_ms) / 1000;
    json_t *object =
        json_pack("{s:s, s:I, s:o, s:o}", "state", state_name(store_state(request_store(request))),
                  "uptime_s", (json_int_t)uptime_s, "keys_approximate",
                  number(stats->keys_approximate), "levels", levels_array(stats));

    if (object != NULL && add_numbers(object, stats) != 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static void stats_finish(struct request *request)
{
    struct store_stats stats;

    store_stats(request_store(request), &stats);
    answer_json(request, stats_object(request, &stats));
}

const struct handler admin_stats = {.needs_store = true, .finish = stats_finish};

static void version_finish(struct request *request)
{
    answer_json(request,
                json_pack("{s:s, s:s}", "name", "varve", "version", request->api->config.version));
}

const struct handler admin_version = {.needs_store = true, .finish = version_finish};

static void openapi_finish(struct request *request)
{
    struct reply reply = reply_static(openapi_text(), openapi_size());

    reply_add(&reply, "Content-Type", "application/yaml");
    reply_add(&reply, "Cache-Control", "no-cache");
    reply_queue(request, MHD_HTTP_OK, &reply);
}

const struct handler admin_openapi = {.needs_store = true, .finish = openapi_finish};
