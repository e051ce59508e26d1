DROP TABLE media;
DROP TABLE media_blobs;
DROP FUNCTION let_go_of_blob();
