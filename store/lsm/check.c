/* check.c - verifying a data directory: the manifest decides what belongs to it, then every byte
 * of every file is read once. */
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
    uint64_t segment;            /* the same as a number */
    struct wal_replay replay;
    bool recoverable; /* by replay, which says where the log ends */
};

const char *check_take_place(const char *text, char ret_name[FILES_NAME_BYTES],
                             uint64_t *ret_offset)
{
    size_t size = strcspn(text, ",:");
    unsigned long long offset;
    int used = 0;
    *ret_offset = 0;
    if (size == 0 || size >= FILES_NAME_BYTES || text[size] == '\0' || text[size + 1] != ' ') {
        return text;
    }
    if (sscanf(text + size, ", offset %llu: %n", &offset, &used) == 1 && used > 0) {
        *ret_offset = offset;
    } else if (text[size] == ':') {
        used = 2;
    } else {
        return text;
    }
    memcpy(ret_name, text, size);
    ret_name[size] = '\0';
    return text + size + used;
}

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

/* Damage that is told by a detail, of the present file unless that says another. */
static void report_detail(struct check *check, const struct err_detail *detail, enum err err)
{
    char name[FILES_NAME_BYTES] = "";
    uint64_t offset = 0;
    const char *text = err_text(err);
    if (detail->text[0] != '\0') {
        text = check_take_place(detail->text, name, &offset);
    }
    report(check, &(struct check_finding){.problem = true,
                                          .file = name[0] != '\0' ? name : check->file,
                                          .offset = offset,
                                          .text = text});
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

/* The table as a whole can't be used: any key of its range may be affected. */
static void report_table(struct check *check, const struct table_info *info,
                         const struct err_detail *detail, enum err err)
{
    char name[FILES_NAME_BYTES];
    uint64_t offset = 0;
    const char *text = err_text(err);
    if (err == ERR_NOT_FOUND) {
        text = "the manifest names this file, and it is missing";
    } else if (detail->text[0] != '\0') {
        text = check_take_place(detail->text, name, &offset);
    }
    /* The first key above the largest one. */
    uint8_t end[RECORD_KEY_MAX_BYTES + 1] = {0};
    memcpy(end, info->largest.data, info->largest.size);
    report_block(check, offset, bytes_of(info->smallest.data, info->smallest.size),
                 bytes_of(end, info->largest.size + 1u), text);
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
        report_table(check, &of->info, &detail, err);
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

/* Where replay found the end of what was acknowledged, a bad place is only a torn tail. */
static void report_place(void *arg, uint64_t offset, const char *text)
{
    struct check *check = arg;
    const struct wal_replay *replay = &check->replay;
    bool torn = check->recoverable && replay->torn &&
                (check->segment > replay->torn_segment ||
                 (check->segment == replay->torn_segment && offset >= replay->torn_offset));
    report(check, &(struct check_finding){
                      .problem = !torn, .file = check->file, .offset = offset, .text = text});
}

static void check_segment(struct check *check, uint64_t number)
{
    files_name(FILE_SEGMENT, number, check->file);
    check->segment = number;
    check->summary->segments++;
    uint64_t before = check->summary->problems;
    struct err_detail why = {""};
    enum err err =
        wal_read_segment(check->dir, check->file, count_frame, report_place, check, &why);
    if (err == ERR_NOT_FOUND) {
        report_place(check, 0, "the manifest names this file, and it is missing");
    } else if (err != ERR_OK && check->summary->problems == before) {
        report_detail(check, &why, err);
    }
}

static void check_segments(struct check *check)
{
    const struct manifest *manifest = &check->manifest;
    struct err_detail detail = {""};
    enum err err =
        wal_replay(check->dir, manifest->store_id, manifest->segments, manifest->n_segments,
                   manifest->covered_seq + 1, pass_frame, NULL, check, &check->replay, &detail);
    check->recoverable = err == ERR_OK;
    check->summary->last_seq =
        check->recoverable ? check->replay.next_seq - 1 : manifest->covered_seq;
    for (size_t i = 0; i < manifest->n_segments; i++) {
        check_segment(check, manifest->segments[i]);
    }
    if (!check->recoverable) {
        /* It ends by recommending what is being done here. */
        char *advice = strstr(detail.text, "; `varve check`");
        if (advice) {
            *advice = '\0';
        }
        strcpy(check->file, "log");
        report_detail(check, &detail, err);
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

static bool any_of_ours(void *arg, const char *name)
{
    enum file_kind kind;
    uint64_t number;
    bool *ret_found = arg;
    *ret_found = files_parse_name(name, &kind, &number);
    return !*ret_found;
}

/* Without a manifest: damage if there is anything that one would name. */
static enum err check_without_manifest(struct check *check, const char *path,
                                       struct err_detail *detail)
{
    bool found = false;
    enum err err = vfs_dir_list(check->dir, any_of_ours, &found);
    if (err != ERR_OK) {
        err_detail_set(detail, "cannot list %s: %s", path, strerror(errno));
        return err;
    }
    if (!found) {
        err_detail_set(detail, "%s has no " FILES_MANIFEST ": it is no data directory of varve",
                       path);
        return ERR_NOT_FOUND;
    }
    report_damage(check, 0, "the manifest is missing, but there are tables or log segments");
    return ERR_OK;
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
        report_detail(check, &why, err);
        return ERR_OK;
    }
    if (err == ERR_NOT_FOUND) {
        return check_without_manifest(check, path, detail);
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
    if (err == ERR_LOCKED) {
        err_detail_set(detail, "data directory %s is in use by another process; stop it first",
                       path);
    } else if (err != ERR_OK) {
        err_detail_set(detail, "cannot lock data directory %s: %s", path, strerror(errno));
    } else {
        err = check_open_dir(&check, path, detail);
    }
    vfs_dir_close(check.dir);
    return err;
}
