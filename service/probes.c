#include "service/probes.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define PLAIN_TEXT   "text/plain; charset=utf-8"
#define METRICS_TEXT "text/plain; version=0.0.4; charset=utf-8"

enum { PAGE_BYTES = 1024, MS_PER_S = 1000 };

unsigned probes_recovery_percent(const struct probes *probes)
{
    uint64_t total = atomic_load(&probes->recovery_total_bytes);
    uint64_t done = atomic_load(&probes->recovered_bytes);
    return total == 0 || done > total ? 0 : (unsigned)(100.0 * (double)done / (double)total);
}

static struct api_page page_new(void)
{
    return (struct api_page){.status = 200, .content_type = PLAIN_TEXT, .text = malloc(PAGE_BYTES)};
}

/* What doesn't fit is cut off. */
PRINTF_LIKE(2, 3) static void page_add(struct api_page *page, const char *format, ...)
{
    if (page->text == NULL) {
        return;
    }
    va_list args;
    va_start(args, format);
    int length =
        vsnprintf(page->text + page->text_bytes, PAGE_BYTES - page->text_bytes, format, args);
    va_end(args);
    page->text_bytes += (size_t)length;
    page->text_bytes = page->text_bytes < PAGE_BYTES ? page->text_bytes : PAGE_BYTES - 1;
}

static void add_recovering(struct api_page *page, const struct probes *probes)
{
    page->status = 503;
    page->retry_after_s = 1;
    page_add(page, "recovering: %u%%\n", probes_recovery_percent(probes));
}

static struct api_page livez(const struct probes *probes)
{
    struct api_page page = page_new();
    const struct store *store = atomic_load(&probes->store);
    uint64_t stuck_ms = store != NULL ? store_stuck_ms(store) : 0;
    if (stuck_ms < PROBES_STUCK_MS) {
        page_add(&page, "ok\n");
    } else {
        page.status = 503;
        page_add(&page, "a thread of the store has been stuck for %" PRIu64 " s\n",
                 stuck_ms / MS_PER_S);
    }
    return page;
}

static struct api_page startupz(const struct probes *probes)
{
    struct api_page page = page_new();
    if (atomic_load(&probes->store) != NULL) {
        page_add(&page, "ok\n");
    } else {
        add_recovering(&page, probes);
    }
    return page;
}

/* Whether puts are taken; adds the line for it. */
static bool check_writable(struct api_page *page, enum store_state state, bool verbose)
{
    switch (state) {
    case STORE_WRITABLE:
        if (verbose) {
            page_add(page, "writable: yes\n");
        }
        return true;
    case STORE_NO_SPACE:
        page_add(page, "writable: no, the disk is full; puts are refused until space returns\n");
        return false;
    case STORE_READ_ONLY:
        page_add(page, "writable: no, the log failed; look at the server's log and restart it\n");
        return false;
    }
    return false;
}

static struct api_page readyz(const struct probes *probes, const struct api_probe_query *query)
{
    struct api_page page = page_new();
    const struct store *store = atomic_load(&probes->store);
    if (store == NULL) {
        add_recovering(&page, probes);
    } else if (query->verbose) {
        page_add(&page, "open: yes\n");
    }
    if (atomic_load(&probes->draining)) {
        page.status = 503;
        page.retry_after_s = problem_kind(PROBLEM_DRAINING)->retry_after_s;
        page_add(&page, "stopping: yes\n");
    } else if (query->verbose) {
        page_add(&page, "stopping: no\n");
    }
    if (store != NULL && (query->verbose || query->write) &&
        !check_writable(&page, store_state(store), query->verbose) && query->write) {
        page.status = 503;
    }
    if (page.text_bytes == 0) {
        page_add(&page, "ok\n");
    }
    return page;
}

static struct api_page metrics(const struct probes *probes)
{
    struct metrics_sources sources = {0};
    const struct http_server *server = atomic_load(&probes->server);
    if (server != NULL) {
        struct http_counts counts = http_counts(server);
        sources.connections = counts.open;
        sources.connections_accepted = counts.accepted;
        sources.connections_refused = counts.refused;
        sources.connections_cut = counts.cut;
    }
    struct store *store = atomic_load(&probes->store);
    struct store_stats stats;
    if (store != NULL) {
        store_stats(store, &stats);
        sources.stats = &stats;
        sources.state = store_state(store);
    }
    struct api_page page = {.status = 200, .content_type = METRICS_TEXT};
    page.text = metrics_render(probes->metrics, &sources, &page.text_bytes);
    return page;
}

void probes_page(void *arg, struct MHD_Connection *connection, enum api_route route,
                 const struct api_probe_query *query, struct api_page *ret_page)
{
    (void)connection;
    const struct probes *probes = arg;
    if (route == API_ROUTE_LIVEZ) {
        *ret_page = livez(probes);
    } else if (route == API_ROUTE_STARTUPZ) {
        *ret_page = startupz(probes);
    } else if (route == API_ROUTE_READYZ) {
        *ret_page = readyz(probes, query);
    } else {
        *ret_page = metrics(probes);
    }
}
