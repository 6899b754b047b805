#include "store/lsm/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "store/lsm/files.h"
#include "store/lsm/table.h"

struct check {
    struct vfs_dir *dir;
    struct manifest manifest;
    check_finding_fn *each;
    void *arg;
    struct check_summary *summary;
    char file[FILES_NAME_BYTES]; /* that is being looked at */
    uint64_t last_table_seq;
};

static void report(struct check *check, const struct check_finding *finding)
{
    if (finding->problem) {
        check->summary->problems++;
    } else {
        check->summary->notes++;
    }
    check->each(check->arg, finding);
}

static void report_damage(void *arg, uint64_t offset, const char *text)
{
    struct check *check = arg;
    report(check, &(struct check_finding){
                      .problem = true, .file = check->file, .offset = offset, .text = text});
}

/* --- Tables --- */

static void report_block(void *arg, uint64_t offset, struct bytes first_key, struct bytes end_key,
                         const char *text)
{
    struct check *check = arg;
    report(check, &(struct check_finding){.problem = true,
                                          .file = check->file,
                                          .offset = offset,
                                          .has_keys = true,
                                          .first_key = first_key,
                                          .end_key = end_key,
                                          .text = text});
}

static void check_table(struct check *check, const struct manifest_table *of)
{
    files_name(FILE_TABLE, of->info.number, check->file);
    check->summary->tables++;
    check->summary->bytes += of->info.size_bytes;
    check->summary->table_records += of->info.records;
    struct err_detail detail = {""};
    uint64_t before = check->summary->problems;
    struct table *table;
    enum err err = table_open(check->dir, check->manifest.store_id, of->info.number, &of->info,
                              &table, &detail);
    if (err == ERR_OK) {
        err = table_verify(check->dir, table, report_block, check, &detail);
        if (table_release(table)) {
            table_free(table);
        }
    }
    if (err != ERR_OK && check->summary->problems == before) {
        report_block(check, 0, bytes_of(of->info.smallest.data, of->info.smallest.size),
                     bytes_of(NULL, 0), detail.text[0] ? detail.text : err_text(err));
    }
}

/* --- Segments --- */

static enum err count_frame(void *arg, const struct frame_header *frame,
                            const struct record *const records[], uint64_t segment_number,
                            uint64_t offset)
{
    (void)records;
    (void)segment_number;
    (void)offset;
    ((struct check *)arg)->summary->log_records += frame->count;
    return ERR_OK;
}

static enum err pass_frame(void *arg, const struct frame_header *frame,
                           const struct record *const records[], uint64_t segment_number,
                           uint64_t offset)
{
    (void)arg;
    (void)frame;
    (void)records;
    (void)segment_number;
    (void)offset;
    return ERR_OK;
}

/* A bad place that replay takes for a torn tail is a note; replay_log() decides. */
static void note_damage(void *arg, uint64_t offset, const char *text)
{
    struct check *check = arg;
    report(check, &(struct check_finding){.file = check->file, .offset = offset, .text = text});
}

static void check_segments(struct check *check)
{
    struct err_detail detail = {""};
    struct wal_replay replay;
    enum err err = wal_replay(check->dir, check->manifest.store_id, check->manifest.segments,
                              check->manifest.n_segments, check->manifest.covered_seq + 1,
                              pass_frame, NULL, check, &replay, &detail);
    bool recoverable = err == ERR_OK;
    check->summary->last_seq = recoverable ? replay.next_seq - 1 : check->manifest.covered_seq;
    for (size_t i = 0; i < check->manifest.n_segments; i++) {
        files_name(FILE_SEGMENT, check->manifest.segments[i], check->file);
        check->summary->segments++;
        uint64_t before = check->summary->problems;
        struct err_detail why = {""};
        err = wal_read_segment(check->dir, check->file, count_frame,
                               recoverable ? note_damage : report_damage, check, &why);
        if (err != ERR_OK && check->summary->problems == before) {
            report_damage(check, 0, why.text[0] ? why.text : err_text(err));
        }
    }
    if (!recoverable) {
        strcpy(check->file, "log");
        report_damage(check, 0, detail.text);
    }
}

/* --- Directory --- */

static bool is_named(const struct check *check, enum file_kind kind, uint64_t number)
{
    for (size_t i = 0; kind == FILE_TABLE && i < check->manifest.n_tables; i++) {
        if (check->manifest.tables[i].info.number == number) {
            return true;
        }
    }
    for (size_t i = 0; kind == FILE_SEGMENT && i < check->manifest.n_segments; i++) {
        if (check->manifest.segments[i] == number) {
            return true;
        }
    }
    return false;
}

static bool look_at_name(void *arg, const char *name)
{
    struct check *check = arg;
    enum file_kind kind;
    uint64_t number;
    if (files_parse_name(name, &kind, &number) && kind != FILE_MANIFEST &&
        !is_named(check, kind, number)) {
        report(check, &(struct check_finding){
                          .file = name,
                          .text = "the manifest doesn't name this file; it is removed at the next "
                                  "start"});
    }
    return true;
}

static enum err check_open_dir(struct check *check, const char *path, struct err_detail *detail)
{
    strcpy(check->file, FILES_MANIFEST);
    struct err_detail why = {""};
    enum err err = manifest_load(check->dir, &check->manifest, &why);
    if (err == ERR_CORRUPT || err == ERR_FORMAT) {
        report_damage(check, 0, why.text);
        return ERR_OK;
    }
    if (err == ERR_NOT_FOUND) {
        err_detail_set(detail, "%s has no " FILES_MANIFEST ": it is no data directory of varve",
                       path);
        return err;
    }
    if (err != ERR_OK) {
        err_detail_set(detail, "%s", why.text[0] ? why.text : err_text(err));
        return err;
    }
    for (size_t i = 0; i < check->manifest.n_tables; i++) {
        check_table(check, &check->manifest.tables[i]);
    }
    check_segments(check);
    err = vfs_dir_list(check->dir, look_at_name, check);
    if (err != ERR_OK) {
        err_detail_set(detail, "cannot list %s: %s", path, strerror(errno));
    }
    manifest_release(&check->manifest);
    return err;
}

enum err check_dir(const struct vfs *vfs, const char *path, check_finding_fn *each, void *arg,
                   struct check_summary *ret_summary, struct err_detail *detail)
{
    memset(ret_summary, 0, sizeof *ret_summary);
    struct check check = {.each = each, .arg = arg, .summary = ret_summary};
    enum err err = vfs_dir_open(vfs, path, false, &check.dir);
    if (err != ERR_OK) {
        err_detail_set(detail, "cannot open data directory %s: %s", path, strerror(errno));
        return err;
    }
    err = vfs_dir_lock(check.dir);
    if (err != ERR_OK) {
        err_detail_set(detail, "data directory %s is in use by another process; stop it first",
                       path);
    } else {
        err = check_open_dir(&check, path, detail);
    }
    vfs_dir_close(check.dir);
    return err;
}
