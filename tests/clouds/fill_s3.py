"""Uploads a folder's files with Amazon's own client: fill_s3.py BUCKET PREFIX FOLDER"""

import sys
from pathlib import Path

import boto3

bucket, prefix, folder = sys.argv[1:]
client = boto3.client("s3")
if bucket not in [found["Name"] for found in client.list_buckets()["Buckets"]]:
    client.create_bucket(Bucket=bucket)
for path in sorted(Path(folder).iterdir()):
    client.upload_file(str(path), bucket, f"{prefix}/{path.name}")
