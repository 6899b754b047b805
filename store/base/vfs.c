/* What is the same for every implementation of vfs.h, and is more than a call. */
#include "store/base/vfs.h"

#include <errno.h>
#include <pthread.h>

/* One at a time: who syncs after a failure is to know of it. */
static pthread_mutex_t dir_syncs = PTHREAD_MUTEX_INITIALIZER;

enum err vfs_dir_sync_since(struct vfs_dir *dir, uint64_t failed_syncs)
{
    pthread_mutex_lock(&dir_syncs);
    enum err err = vfs_dir_sync(dir);
    if (err != ERR_OK) {
        atomic_fetch_add(&dir->failed_syncs, 1);
    } else if (atomic_load(&dir->failed_syncs) != failed_syncs) {
        errno = EIO;
        err = ERR_IO;
    }
    pthread_mutex_unlock(&dir_syncs);
    return err;
}
