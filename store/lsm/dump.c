/* dump.c - handing on what one file holds, entry by entry. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/lsm/check.h"
#include "store/lsm/files.h"
#include "store/lsm/table.h"
#include "store/lsm/table_rescue.h"

static enum err dump_frame(void *arg, const struct frame_header *frame,
                           const struct record *const records[], uint64_t segment_number,
                           uint64_t offset)
{
    (void)segment_number;
    const struct dump_visitor *visitor = arg;
    visitor->frame(visitor->arg, offset, frame);
    for (uint32_t i = 0; i < frame->count; i++) {
        visitor->record(visitor->arg, records[i]);
    }
    return ERR_OK;
}

static void dump_bad(void *arg, uint64_t offset, const char *text)
{
    const struct dump_visitor *visitor = arg;
    visitor->damage(visitor->arg, offset, text);
}

static void tell_damage(const struct dump_visitor *visitor, const struct err_detail *detail)
{
    char name[FILES_NAME_BYTES];
    uint64_t offset;
    const char *text = check_take_place(detail->text, name, &offset);
    visitor->damage(visitor->arg, offset, text);
}

static enum err dump_segment(struct vfs_dir *dir, const char *name,
                             const struct file_header *header, uint64_t size_bytes,
                             const struct dump_visitor *visitor, struct err_detail *detail)
{
    visitor->segment(visitor->arg, header->number, size_bytes);
    return wal_read_segment(dir, name, dump_frame, dump_bad, (void *)visitor, detail);
}

/* Everything that is intact, and the damaged places between. *ret_damaged: there were some. */
static enum err dump_records(struct vfs_dir *dir, const char *name, const struct table_info *info,
                             const struct dump_visitor *visitor, bool *ret_damaged,
                             struct err_detail *detail)
{
    struct table_rescue *rescue;
    struct rescue_item item = {.text = NULL};

    enum err err = table_rescue_open(dir, name, info, &rescue, detail);
    if (err != ERR_OK) {
        return err;
    }
    *ret_damaged = false;
    do {
        err = table_rescue_next(rescue, &item);
        if (err == ERR_OK && item.record) {
            visitor->record(visitor->arg, item.record);
        } else if (err == ERR_OK && item.text) {
            visitor->damage(visitor->arg, item.offset, item.text);
            *ret_damaged = true;
        }
    } while (err == ERR_OK && (item.record || item.text));
    table_rescue_free(rescue);
    return err;
}

/* Damage that costs no record: in the filter, in zeros, in what can be made anew. */
static enum err dump_verified(struct vfs_dir *dir, struct table *table,
                              const struct dump_visitor *visitor)
{
    struct err_detail detail = {""};
    enum err err = table_verify(dir, table, NULL, NULL, &detail);
    if (err == ERR_CORRUPT || err == ERR_IO) {
        tell_damage(visitor, &detail);
        err = ERR_OK;
    }
    return err;
}

static enum err dump_table(struct vfs_dir *dir, const char *name, const struct file_header *header,
                           const struct dump_visitor *visitor, struct err_detail *detail)
{
    struct table *table = NULL;
    bool damaged = false;
    enum err err = table_open(dir, header->store_id, header->number, NULL, &table, detail);
    if (err == ERR_CORRUPT || (err == ERR_FORMAT && !file_header_is_intact(header))) {
        tell_damage(visitor, detail);
    } else if (err != ERR_OK) {
        return err;
    } else {
        visitor->table(visitor->arg, table_info(table));
    }
    err = dump_records(dir, name, table ? table_info(table) : NULL, visitor, &damaged, detail);
    if (err == ERR_OK && table && !damaged) {
        err = dump_verified(dir, table, visitor);
    }
    table_free(table);
    return err;
}

struct manifest_look {
    const struct dump_visitor *visitor;
    bool told;
};

static void tell_place(void *arg, const struct err_detail *detail)
{
    struct manifest_look *look = arg;
    tell_damage(look->visitor, detail);
    look->told = true;
}

static enum err dump_manifest(struct vfs_dir *dir, const struct dump_visitor *visitor,
                              struct err_detail *detail)
{
    struct manifest_look look = {.visitor = visitor};
    struct manifest manifest;
    struct err_detail why = {""};
    enum err err = manifest_load(dir, &manifest, &why);
    if (err == ERR_CORRUPT || err == ERR_FORMAT) {
        err = manifest_load_damaged(dir, tell_place, &look, &manifest, detail);
        if (err == ERR_OK && !look.told) {
            tell_damage(visitor, &why); /* of the whole: its end, or what it says contradicts */
        }
    } else if (err != ERR_OK) {
        *detail = why;
    }
    if (err != ERR_OK) {
        return err;
    }
    visitor->manifest(visitor->arg, &manifest);
    manifest_release(&manifest);
    return ERR_OK;
}

static enum err read_header(struct vfs_dir *dir, const char *name, struct file_header *ret_header,
                            uint64_t *ret_size_bytes, struct err_detail *detail)
{
    struct vfs_file *file;
    enum err err = vfs_open(dir, name, VFS_READ, &file);
    if (err != ERR_OK) {
        err_detail_set(detail, "cannot open %s: %s", name, strerror(errno));
        return err;
    }
    size_t got = 0;
    memset(ret_header, 0, sizeof *ret_header);
    err = vfs_read(file, 0, ret_header, sizeof *ret_header, &got);
    if (err == ERR_OK) {
        err = vfs_size(file, ret_size_bytes);
    }
    if (err != ERR_OK) {
        err_detail_set(detail, "cannot read %s: %s", name, strerror(errno));
    }
    vfs_close(file);
    return err;
}

/* The kind by the name that the file was given, because a damaged header must not hide it. */
static enum err dump_named(struct vfs_dir *dir, const char *name,
                           const struct dump_visitor *visitor, struct err_detail *detail)
{
    enum file_kind kind = FILE_MANIFEST;
    uint64_t number = 0;
    struct file_header header;
    uint64_t size_bytes;
    enum err err = read_header(dir, name, &header, &size_bytes, detail);
    if (err != ERR_OK) {
        return err;
    }
    if (strcmp(name, FILES_MANIFEST) != 0 && !files_parse_name(name, &kind, &number)) {
        err_detail_set(detail, "%s is not named like a segment, table or manifest of varve", name);
        return ERR_INVALID;
    }
    switch (kind) {
    case FILE_SEGMENT:
        header.number = number;
        return dump_segment(dir, name, &header, size_bytes, visitor, detail);
    case FILE_TABLE:
        header.number = number;
        return dump_table(dir, name, &header, visitor, detail);
    case FILE_MANIFEST:
        return dump_manifest(dir, visitor, detail);
    }
    return ERR_INVALID;
}

enum err dump_file(const struct vfs *vfs, const char *path, const struct dump_visitor *visitor,
                   struct err_detail *detail)
{
    char *folder = strdup(path);
    if (!folder) {
        return ERR_NO_MEMORY;
    }
    char *slash = strrchr(folder, '/');
    const char *name = slash ? slash + 1 : folder;
    const char *in = slash == folder ? "/" : slash ? folder : ".";
    if (slash) {
        *slash = '\0';
    }
    struct vfs_dir *dir;
    enum err err = vfs_dir_open(vfs, in, false, &dir);
    if (err != ERR_OK) {
        err_detail_set(detail, "cannot open directory %s: %s", in, strerror(errno));
    } else {
        err = dump_named(dir, name, visitor, detail);
        vfs_dir_close(dir);
    }
    free(folder);
    return err;
}
