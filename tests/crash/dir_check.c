/* dir_check.c - the store's own look at a directory, with what it finds as the message. */
#include "tests/crash/dir_check.h"

#include <inttypes.h>
#include <stdio.h>

#include "store/lsm/check.h"
#include "tests/support/check.h"

struct findings {
    char text[2000];
    size_t size;
};

static void keep(void *arg, const struct check_finding *finding)
{
    struct findings *findings = arg;
    size_t room = sizeof findings->text - findings->size;
    int n = snprintf(findings->text + findings->size, room, "%s: %s, offset %" PRIu64 ": %s\n",
                     finding->problem ? "damage" : "note", finding->file, finding->offset,
                     finding->text);
    findings->size += n > 0 && (size_t)n < room ? (size_t)n : 0;
}

void check_dir_in_order(const char *dir, bool clean)
{
    struct findings findings = {.size = 0};
    struct check_summary summary = {.tables = 0};
    struct err_detail detail = {.text = ""};
    enum err err = check_dir(vfs_posix(), dir, keep, &findings, &summary, &detail);
    if (err != ERR_OK) {
        fail_msg("cannot check %s: %s", dir, detail.text);
    }
    if (summary.problems > 0 || (clean && summary.notes > 0)) {
        fail_msg("%s (kept):\n%s", dir, findings.text);
    }
}
