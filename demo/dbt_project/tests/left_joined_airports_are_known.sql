-- Four airports were missing when the stream table was made and came in live.
select flight_id
from {{ ref('flight_facts') }}
where dest_name is null
